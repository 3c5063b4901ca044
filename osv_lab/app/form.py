"""A form: each field is one line that states its label, its default, its limits and what to know about it.

A field's default serves the App's form and a call from Python alike; what is wrong with a value is shown at the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fiftyone.operators import types

from osv_lab.app.places import allowed_path, export_path
from osv_lab.core.errors import NotFoundError, OsvError, UsageError, nearest

Choices = Mapping[str, str] | Sequence[str]
"""Values, or values and what they are called."""

_NOTES: Mapping[str, Any] = {"notice": types.Notice, "warning": types.Warning, "error": types.Error}


class Form:
    """The form of an operator, being built for what was filled in so far.

    Args:
        ctx: FiftyOne's execution context.

    Attributes:
        inputs: FiftyOne's object with the fields, for what this class has no method for.
        values: The value of each field: as given, else its default.
        problems: What is wrong, by field.
    """

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self.inputs = types.Object()
        self.values: dict[str, Any] = {}
        self.problems: dict[str, OsvError] = {}

    def target(self) -> None:
        """Which samples: the dataset, the view or the selection. ``ask.view`` has them."""
        self.ctx.target_view()

    def text(
        self,
        name: str,
        label: str,
        default: str = "",
        *,
        help: str = "",
        required: bool = False,
        many: bool = False,
    ) -> str:
        """A line of text; ``many`` lines with that."""
        view = types.TextFieldView(multiline=True) if many else None
        return str(self._add(name, types.String(), label, default, help, view, required=required) or "")

    def number(
        self,
        name: str,
        label: str,
        default: float | None = None,
        *,
        low: float | None = None,
        high: float | None = None,
        whole: bool = False,
        help: str = "",
    ) -> Any:
        """A number from ``low`` to ``high``; without a default it may be left out (``None``)."""
        kind = types.Number(min=low, max=high, int=whole, float=not whole)
        value = self._add(name, kind, label, default, help, None)
        if whole and isinstance(value, float):
            if not value.is_integer():
                self.refuse(name, UsageError(f"{label.lower()} must be a whole number", value))
                return None
            value = self.values[name] = int(value)
        return value

    def switch(self, name: str, label: str, default: bool = False, *, help: str = "") -> bool:
        """Yes or no."""
        return bool(self._add(name, types.Boolean(), label, default, help, types.SwitchView()))

    def choice(
        self,
        name: str,
        label: str,
        choices: Choices,
        default: str | None = None,
        *,
        help: str = "",
        free: bool = False,
    ) -> Any:
        """One of some values; ``free``: or any other that is typed."""
        offered = _offered(choices)
        view: Any = types.AutocompleteView(allow_user_input=True) if free else types.DropdownView()
        for value, said in offered.items():
            view.add_choice(value, label=said)
        default = default if default is not None or free else next(iter(offered), None)
        value = self._add(name, types.String(), label, default, help, view, required=not free)
        if not isinstance(value, str):
            return None  # FiftyOne refuses what is no text.
        if not free and value not in offered:
            self.refuse(name, NotFoundError(f"no such {label.lower()}", repr(value), _nearest(value, offered)))
        return value

    def several(
        self, name: str, label: str, choices: Choices, default: Sequence[str] = (), *, help: str = ""
    ) -> list[str]:
        """Any number of some values."""
        offered = _offered(choices)
        view = types.DropdownView(multiple=True)
        for value, said in offered.items():
            view.add_choice(value, label=said)
        values = self._add(name, types.List(types.String()), label, list(default), help, view)
        for value in values or ():
            if value not in offered:
                self.refuse(name, NotFoundError(f"no such {label.lower()}", repr(value), _nearest(value, offered)))
        return list(values or ())

    def label_field(
        self,
        name: str,
        label: str,
        default: str = "",
        *,
        kinds: Sequence[str] = ("Detections",),
        new: bool = False,
        frames: bool = False,
        help: str = "",
    ) -> Any:
        """A field with labels of some kinds; ``new``: or one that is to be made.

        Args:
            kinds: Names of FiftyOne's classes.
            frames: Frame fields (``frames.x``) as well.
        """
        fields = label_fields(self.ctx.dataset, kinds, frames)
        wanted = default if default in fields or new else next(iter(fields), None)
        if not fields and not new:
            self.note(f"no_{name}", f"The dataset has no field of {' or '.join(kinds)}.", "warning")
        return self.choice(name, label, fields, wanted, help=help, free=new)

    def model(self, name: str, label: str = "Model", default: str | None = None, *, help: str = "") -> Any:
        """A registered model, or a model file in a folder that forms may read."""
        from osv_lab.app.models import model_choices

        offered = model_choices(anew=not self.ctx.params)  # When the form opens; later ones are of keystrokes.
        default = default or next(iter(offered), None)
        value = self.choice(name, label, offered, default, help=help or _MODEL_HELP, free=True)
        if not value:
            self.refuse(name, NotFoundError("no model is chosen", "", "register one, or give the path of a file"))
        elif value not in offered and not value.startswith("models:/"):
            self.check(name, allowed_path, value, self.ctx.dataset)
        return value

    def path(self, name: str, label: str, default: str = "", *, help: str = "") -> Path | None:
        """A file or folder to read: the lab's, the dataset's, or one in an import root."""
        text = self.text(name, label, default, help=help, required=True)
        return self.check(name, allowed_path, text, self.ctx.dataset) if text else None

    def export_folder(self, name: str, label: str, default: str = "", *, help: str = "") -> Path | None:
        """The name of a folder to write, among the lab's exports."""
        text = self.text(name, label, default, help=help, required=True)
        return self.check(name, export_path, text) if text else None

    def note(self, name: str, text: str, kind: str = "notice") -> None:
        """A line that says something; ``kind``: notice, warning or error."""
        self.inputs.view(name, _NOTES[kind](label=text))

    def check(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """The function's result; an :class:`OsvError` of it is shown at the field, and gives ``None``.

        Example:
            >>> import fiftyone.operators as foo
            >>> from osv_lab.curate.query import parse
            >>> form = Form(foo.ExecutionContext(request_params={"params": {"query": 'class:"RBC'}}))
            >>> form.check("query", parse, form.text("query", "Query")) is None
            True
            >>> form.problems["query"].what
            'the query cannot be read at column 7'
        """
        try:
            return function(*args, **options)
        except OsvError as error:
            self.refuse(name, error)
            return None

    def refuse(self, name: str, error: OsvError) -> None:
        """Show an error at a field, the first one where there are several; the form cannot be sent like this."""
        if name in self.problems:
            return
        self.problems[name] = error
        property_ = self.inputs.properties[name]
        property_.invalid = True
        property_.error_message = str(error)

    def _add(
        self, name: str, kind: Any, label: str, default: Any, help: str, view: Any, *, required: bool = False
    ) -> Any:
        given = self.ctx.params.get(name)
        self.values[name] = default if given is None else given
        # A field that has a default is never missing: a call from Python leaves out what it does not change.
        options = {"default": default, "required": required and default in (None, "")}
        self.inputs.define_property(name, kind, label=label, description=help or None, view=view, **options)
        return self.values[name]


_MODEL_HELP = "models:/name@alias, or the path of a model file of the lab"


def label_fields(dataset: Any, kinds: Sequence[str] = ("Detections",), frames: bool = False) -> list[str]:
    """The dataset's fields with labels of some kinds (names of FiftyOne's classes), in the order of its schema."""
    schemas = [("", dataset.get_field_schema())]
    if frames and dataset.media_type == "video":
        schemas.append(("frames.", dataset.get_frame_field_schema()))
    return [
        prefix + name
        for prefix, schema in schemas
        for name, field in schema.items()
        if getattr(getattr(field, "document_type", None), "__name__", "") in kinds
    ]


def _offered(choices: Choices) -> dict[str, str]:
    return dict(choices) if isinstance(choices, Mapping) else {value: value for value in choices}


def _nearest(value: Any, offered: Mapping[str, str]) -> str:
    return nearest(str(value), offered) if offered else "there is none"
