"""``python -m osv_lab`` is ``osv``."""

from osv_lab.cli import main

raise SystemExit(main())
