#!/bin/sh
# packages.sh PACKAGE...: installs those of these Debian packages that are missing, and says so.
#
# Nothing is asked of apt when all are there. Servers that come along (PostgreSQL, nginx) are wanted for their programs only: while
# installing, no service is started and no database cluster is made, and a service that was not here before is left disabled.
set -eu

missing=
for package in "$@"; do
	status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "Not a Debian: please install what corresponds to:$missing" >&2
	exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "Please install (as root):$missing" >&2; exit 1; }
	as_root=sudo
fi

echo "Installing with apt-get:$missing"

# invoke-rc.d asks /usr/sbin/policy-rc.d whether a service may start (101: no); one that is there already has its own say.
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/depotd-tests.conf
undo() {
	[ -z "${own_policy:-}" ] || $as_root rm -f "$policy"
	[ -z "${own_cluster:-}" ] || $as_root rm -f "$cluster"
}
trap undo EXIT
trap 'exit 1' INT TERM HUP
if [ ! -e "$policy" ]; then
	own_policy=yes
	printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
	$as_root chmod 755 "$policy"
fi
case "$missing" in *" postgresql"*)
	own_cluster=yes
	$as_root mkdir -p "${cluster%/*}"
	echo "create_main_cluster = false" | $as_root tee "$cluster" >/dev/null ;;
esac

quiet() {
	log=$(mktemp)
	if ! "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
}
quiet $as_root apt-get update
# shellcheck disable=SC2086
quiet $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing

case "$missing " in *" nginx "*)
	! command -v systemctl >/dev/null || $as_root systemctl disable nginx >/dev/null 2>&1 || true ;;
esac
