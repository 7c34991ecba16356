"""Which parts a site has. Pure: a context in, a site out."""

import itertools

from lxdocker_lxd.serve import image_registry, lxc_index, streams
from lxdocker_lxd.serve.pages import catalog, image_view
from lxdocker_lxd.serve.site import Site, SiteContext


def site(context: SiteContext) -> Site:
    """Return all that is served from the context's catalogue at its moment."""
    return Site(
        itertools.chain(
            streams.entries(context),
            lxc_index.entries(context),
            image_registry.entries(context),
            catalog.entries(context),
        ),
        roots=streams.roots(context),
        servable=context.catalogue.servable(),
        next_change=min(
            filter(None, (streams.next_change(context), image_view.next_change(context))),
            default=None,
        ),
    )
