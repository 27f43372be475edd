"""The app, as the tests of the web have it."""

from finance_os_tests.web.conftest import browse

__all__ = ["browse"]
