#!/busybox-lxd sh
# The DHCP client starts this; the image may have no shell of its own, so busybox runs the real one.
exec /busybox-lxd sh /lxd-udhcpc-default.script.real "$@"
