#!/busybox-lxd sh
