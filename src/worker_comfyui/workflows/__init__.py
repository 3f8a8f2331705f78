"""Any workflow that people have → the API workflow that runs; `resolve` is the way in."""
