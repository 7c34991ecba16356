"""All attacks."""

from tests.hostile import dhcp_cases, dns_cases, image_cases, server_cases

CASES = (*image_cases.CASES, *server_cases.CASES, *dhcp_cases.CASES, *dns_cases.CASES)
