"""XML from strangers: no entities, no document types, no outside references, and one kind of error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


class XmlError(ValueError):
    """The text is not well-formed XML, or declares entities (which is how a small file fills the memory)."""


def parse_xml(data: bytes) -> Element:
    """The root element.

    Raises:
        XmlError: with the position of the first fault.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import ElementTree
    from defusedxml.common import DefusedXmlException

    try:
        root: Element = ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise XmlError(f"document types and entities are refused ({type(error).__name__})") from None
    except (ParseError, ValueError, LookupError) as error:
        raise XmlError(f"broken XML: {error}") from None
    return root
