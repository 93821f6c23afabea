"""The page to look at and listen to: one HTML file that needs nothing else.

jinja2 is an extra (`pip install 'jaxsep[report]'`).
"""

from jaxsep.report.clips import ClipFolder, load_clips
from jaxsep.report.page import import_jinja, write_report

__all__ = ["ClipFolder", "import_jinja", "load_clips", "write_report"]
