#!/bin/sh
# Prepare a Debian 12 or 13 or an Ubuntu 24.04 to run Emberkeep from this checkout.
#
# Installs what is missing and nothing else, saying so; then makes .venv with the locked
# dependencies. As root, or with sudo where something has to be installed. Run again, it finds
# everything there and is done in a moment.
set -eu

UV_VERSION=0.13.9
LEAST_QEMU=8.2
DEBIAN_KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1

say() { printf '%s\n' "setup: $*"; }
die() {
	printf '%s\n' "setup: $*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo --preserve-env=DEBIAN_FRONTEND,NEEDRESTART_SUSPEND,http_proxy,https_proxy,no_proxy "$@"
	else
		die "this needs root: $*"
	fi
}

have() { command -v "$1" >/dev/null; }

# at_least VERSION LEAST
at_least() { dpkg --compare-versions "$1" ge "$2"; }

qemu_version() {
	have qemu-system-x86_64 || return 0
	qemu-system-x86_64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p'
}

# the first of the system's Pythons that is new enough
system_python() {
	for python in /usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11; do
		[ -x $python ] || continue
		if $python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
			echo $python
			return
		fi
	done
}

# the packages that are missing, one a line
missing_packages() {
	while read -r tool package; do
		have "$tool" || echo "$package"
	done <<-END
		mmdebstrap mmdebstrap
		mkfs.erofs erofs-utils
		mke2fs e2fsprogs
		nft nftables
		pasta passt
		ip iproute2
		newuidmap uidmap
		setpriv util-linux
		qemu-img qemu-utils
	END
	[ -e $DEBIAN_KEYS ] || echo debian-archive-keyring
	[ -s /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
	python=$(system_python)
	if [ -z "$python" ]; then
		printf '%s\n' python3 python3-venv
	elif ! $python -c 'import ensurepip, venv' 2>/dev/null; then
		echo python3-venv
	fi
	qemu=$(qemu_version)
	if [ -z "$qemu" ] || ! at_least "$qemu" $LEAST_QEMU; then
		printf '%s\n' qemu-system-x86 qemu-utils
	fi
}

# The mirror that this Debian uses itself, else Debian's own.
debian_mirror() {
	found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		grep -E '^(deb|URIs:) ' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 |
		sed 's/\/\{0,1\} *$//')
	echo "${found:-http://deb.debian.org/debian}"
}

# Debian 12's own QEMU is 7.2; the right one is in its backports.
add_backports() {
	[ "$ID $VERSION_ID" = "debian 12" ] || return 0
	grep -qs '^[^#]*bookworm-backports' /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
		/etc/apt/sources.list.d/*.sources && return 0
	say "adding bookworm-backports for QEMU: /etc/apt/sources.list.d/emberkeep-backports.sources"
	as_root tee /etc/apt/sources.list.d/emberkeep-backports.sources >/dev/null <<-END
		Types: deb
		URIs: $(debian_mirror)
		Suites: bookworm-backports
		Components: main
		Signed-By: $DEBIAN_KEYS
	END
}

install_packages() {
	packages=$(missing_packages | sort -u | tr '\n' ' ')
	[ -n "$packages" ] || return 0
	[ -r /etc/os-release ] || die "this is no Debian or Ubuntu; install by hand: $packages"
	. /etc/os-release
	case "$ID $VERSION_ID" in
	"debian 12" | "debian 13" | "ubuntu 24.04") ;;
	*) have apt-get || die "no apt-get on $PRETTY_NAME; install what they are called here: $packages" ;;
	esac
	release=
	case " $packages" in *" qemu-system-x86 "*)
		add_backports
		[ "$ID $VERSION_ID" = "debian 12" ] && release=bookworm-backports
		;;
	esac
	say "installing $packages"
	as_root apt-get -qq -o DPkg::Lock::Timeout=120 update ||
		say "some package lists could not be fetched; going on with what there is"
	# shellcheck disable=SC2086  a list of words
	as_root apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends \
		${release:+-t "$release"} install $packages >/dev/null ||
		die "the packages could not be installed; try: apt-get install $packages"
	still=$(missing_packages | sort -u | tr '\n' ' ')
	[ -z "$still" ] || die "still missing or too old after the installation: $still"
}

make_environment() {
	lock=$(cat uv.lock pyproject.toml | sha256sum | cut -d ' ' -f 1)
	stamp=.venv/.emberkeep-$lock-$UV_VERSION
	if [ -e "$stamp" ] && .venv/bin/python -c '' 2>/dev/null && [ -x .venv/bin/emberkeep ]; then
		return
	fi
	if ! .venv/bin/python -c '' 2>/dev/null; then
		say "making .venv with $(system_python)"
		"$(system_python)" -m venv --clear .venv
	fi
	if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d ' ' -f 2)" != $UV_VERSION ]; then
		say "installing uv $UV_VERSION into .venv"
		.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" ||
			die "uv could not be installed; is the network there, and its proxy set?"
	fi
	say "installing the locked dependencies into .venv"
	# --inexact: uv itself is not in the lock
	UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=.venv UV_SYSTEM_CERTS=1 \
		.venv/bin/uv sync --quiet --frozen --inexact ||
		die "the dependencies could not be installed; is the network there, and its proxy set?"
	rm -f .venv/.emberkeep-*
	: >"$stamp"
}

install_packages
make_environment
say "ready: .venv/bin/emberkeep"
