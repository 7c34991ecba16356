"""The registry client: login, redirects, retries, resumed transfers, mirrors."""
