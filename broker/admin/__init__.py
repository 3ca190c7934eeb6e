"""Generated stubs of the admin API."""
