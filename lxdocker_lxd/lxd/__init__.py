"""LXD as typed records and small ports; one adapter over pylxd stands behind them.

``records`` and ``requests`` are what crosses the border, ``ports`` is what can be asked, ``daemon``
opens a connection. Nothing else in the package speaks to LXD.
"""
