"""All attacks."""

from tests.hostile import image_cases, server_cases

CASES = (*image_cases.CASES, *server_cases.CASES)
