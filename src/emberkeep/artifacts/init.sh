#!/bin/sh
# /init of a microVM: finds the disks by their serial, mounts them, hands over to the agent.
# It runs in busybox, in the initramfs, as PID 1. A kernel with every driver built in needs no
# modules from here, so their absence is no error.
export PATH=/bin HOME=/

off() {
	# Without ACPI a kernel can only halt; there a reset ends the VMM (-no-reboot).
	[ -d /sys/firmware/acpi ] && poweroff -f
	reboot -f
}

fail() {
	echo "EMBERKEEP-FAILED: $*" >/dev/console
	off
}

load_modules() {
	dir=/lib/modules/$(uname -r)
	[ -f "$dir/order" ] || return 0
	while read -r module; do
		insmod "$dir/$module" 2>/dev/null || echo "emberkeep: $module did not load" >/dev/console
	done <"$dir/order"
}

# disk SERIAL: print the device of the disk with that serial, or nothing
disk() {
	for file in /sys/block/*/serial; do
		[ -f "$file" ] || continue
		read -r serial <"$file" || [ -n "$serial" ] || continue
		[ "$serial" = "$1" ] || continue
		name=${file#/sys/block/}
		echo "/dev/${name%/serial}"
		return
	done
}

# need SERIAL: the same, waiting a moment for a slow driver; fails without it
need() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		found=$(disk "$1")
		[ -n "$found" ] && return
		sleep 0.1
	done
	fail "no disk with the serial $1"
}

mount_image() {
	image=/agent/run/image
	mkdir -p $image/lower $image/disk $image/root
	need image
	mount -t erofs -o ro "$found" $image/lower || fail "cannot mount the image"
	lower=$image/lower
	n=1
	while layer=$(disk "layer$n") && [ -n "$layer" ]; do
		mkdir $image/lower$n
		mount -t erofs -o ro "$layer" $image/lower$n || fail "cannot mount layer $n"
		lower=$image/lower$n:$lower
		n=$((n + 1))
	done
	if [ -f /config.json ]; then # of the image's main process: one line of JSON
		IFS= read -r config </config.json
		printf '%s\n' "$config" >$image/config.json || fail "cannot write config.json"
	fi
	need disk
	mount -t ext4 -o noatime "$found" $image/disk || fail "cannot mount the writable disk"
	mkdir -p $image/disk/upper $image/disk/work
	mount -t overlay -o "lowerdir=$lower,upperdir=$image/disk/upper,workdir=$image/disk/work,redirect_dir=on" \
		overlay $image/root || fail "cannot stack the image"
}

mount -t proc -o nosuid,nodev,noexec proc /proc
read -r cmdline </proc/cmdline
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
case " $cmdline " in *" emberkeep.probe "*)
	echo EMBERKEEP-ALIVE >/dev/console
	off
	;;
esac
mount -t devtmpfs -o mode=755,nosuid devtmpfs /dev 2>/dev/null ||
	[ -b /dev/vda ] || fail "cannot mount devtmpfs"

load_modules
need agent
mount -t erofs -o ro "$found" /agent || fail "cannot mount the agent's root"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /agent/run || fail "cannot mount /run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /agent/tmp || fail "cannot mount /tmp"
mount_image

mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /dev/pts || fail "cannot mount devpts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm || fail "cannot mount /dev/shm"
for place in proc sys dev; do
	mount --move /$place /agent/$place || fail "cannot move /$place"
done

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec /bin/switch_root -c /dev/console /agent /usr/bin/python3 -I -B -m emberkeep_guest
