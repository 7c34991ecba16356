"""The list of all images, a page for each, and the same for programs. Pure but for its templates.

Every link is relative: the tree works below any prefix, served or as files.
"""

import functools
from collections.abc import Iterable, Iterator
from urllib.parse import quote, urlsplit

from lxdocker_lxd.instance_keys import INSTANCE_KEYS
from lxdocker_lxd.serve.entry import Document, Entry
from lxdocker_lxd.serve.image_registry import certificates_by_path
from lxdocker_lxd.serve.pages import client_commands, image_document, update_feed
from lxdocker_lxd.serve.pages.image_search import findable, found
from lxdocker_lxd.serve.pages.image_view import OLD_DAYS, ImageView, file_path, history, images
from lxdocker_lxd.serve.pages.page_templates import page
from lxdocker_lxd.serve.pages.static_files import STATIC_FILES
from lxdocker_lxd.serve.run_config import RunConfig
from lxdocker_lxd.serve.site import SiteContext
from lxdocker_lxd.spec_values import image_name

IMAGES_PATH = "images.json"
FEED_PATH = "feed.atom"
KEYS_PATH = "instance-keys/"

_HTML = "text/html; charset=utf-8"
_INDEX = "index.html"
_LINK_LABELS = {
    "org.opencontainers.image.url": "Home page",
    "org.opencontainers.image.documentation": "Documentation",
    "org.opencontainers.image.source": "Source code",
}


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the pages and what they load."""
    bind = functools.partial
    yield Document(path=_INDEX, media_type=_HTML, render=bind(_list_page, context))
    yield Document(path=KEYS_PATH + _INDEX, media_type=_HTML, render=bind(_keys_page, context))
    for image in images(context):
        if has_page(image.name):
            yield Document(
                path=f"image/{image.name}/{_INDEX}",
                media_type=_HTML,
                render=bind(_image_page, context, image),
            )
    yield Document(
        path=IMAGES_PATH,
        media_type="application/json",
        render=bind(image_document.images_document, context),
    )
    yield Document(
        path=FEED_PATH,
        media_type="application/atom+xml; charset=utf-8",
        render=bind(update_feed.feed, context, FEED_PATH),
    )
    for file in STATIC_FILES.values():
        yield Document(path=file.path, media_type=file.media_type, render=bind(bytes, file.content))


def search_page(context: SiteContext, query: str) -> bytes:
    """Return the page of the images that ``query`` finds."""
    return _list(context, found(query, images(context)), query=query)


def has_page(name: str) -> bool:
    """Whether ``name`` can be a part of a path, as the names of specifications can."""
    try:
        return image_name(name) == name
    except ValueError:
        return False


def _list_page(context: SiteContext) -> bytes:
    return _list(context, images(context), query="")


def _list(context: SiteContext, shown: Iterable[ImageView], *, query: str) -> bytes:
    listed = tuple(shown)
    names = {product.name for product in context.catalogue.products}
    return page(
        "list.html",
        **_frame(context, root="./"),
        query=query,
        images=listed,
        total=len(names),
        old_days=OLD_DAYS,
        findable=findable,
        path_of=_page_path,
        launch=functools.partial(client_commands.short_launch, settings=context.settings),
        updated_at=context.catalogue.updated_at,
    )


def _image_page(context: SiteContext, image: ImageView) -> bytes:
    return page(
        "image.html",
        **_frame(context, root="../../"),
        image=image,
        old_days=OLD_DAYS,
        commands_given=client_commands.launch(image, context.settings),
        ports_reached=client_commands.reach(image),
        histories=[(build, history(build, context)) for build in image.builds],
        config_of=lambda build: RunConfig.read(build.current.config),
        links=_LINK_LABELS,
        file_path=file_path,
    )


def _keys_page(context: SiteContext) -> bytes:
    return page(
        "keys.html",
        **_frame(context, root="../"),
        keys=[key for key in INSTANCE_KEYS if key.read_by == "guest"],
    )


def _frame(context: SiteContext, *, root: str) -> dict[str, object]:
    """Return what the layout of every page needs; ``root`` leads from the page to the tree's root."""
    settings = context.settings
    return {
        "root": root,
        "host": urlsplit(settings.base_url).netloc,
        "remote": settings.remote_name,
        "add_remote": client_commands.add_remote(settings),
        "certificate": next(iter(certificates_by_path(settings.certificates)), ""),
        "trust": client_commands.trust(settings),
        "paths": {"images": IMAGES_PATH, "feed": FEED_PATH, "settings": KEYS_PATH},
    }


def _page_path(image: ImageView) -> str | None:
    """Return the path of an image's page from the tree's root, encoded, if it has one."""
    return f"image/{quote(image.name, safe='')}/" if has_page(image.name) else None
