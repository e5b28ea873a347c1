"""A static page that runs a model in the browser: `write_site`, and the files that it copies."""

from export.web.site_writer import RUNTIME, WebError, write_site

__all__ = ["RUNTIME", "WebError", "write_site"]
