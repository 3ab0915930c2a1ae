"""The parts of the OpenAPI document, which docs/make_openapi.py puts together."""
