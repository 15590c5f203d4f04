#!/bin/sh
# Makes sure that browser tests find a Chromium, or says loudly that they will be skipped.
#
# Installs the system's package only where that is expected: as root, with CI=true or
# CHROMIUM=install. An install that was asked for and fails ends with 1: tests skipped
# unseen would look like tests passed.
set -eu

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done

if [ "${CI:-}" = true ] || [ "${CHROMIUM:-}" = install ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo 'ensure_chromium: installing chromium with apt-get' >&2
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        export DEBIAN_FRONTEND=noninteractive
        # fonts-dejavu-core: without a font, screenshots show boxes.
        if { apt-get -o Acquire::Retries=3 update &&
             apt-get -o Acquire::Retries=3 install -y --no-install-recommends \
                 chromium fonts-dejavu-core; } >"$log" 2>&1 </dev/null; then
            exit 0
        fi
        tail -n 30 "$log" >&2
        echo 'ensure_chromium: apt-get could not install chromium (see above)' >&2
        exit 1
    fi
    if [ "${CHROMIUM:-}" = install ]; then
        echo 'ensure_chromium: CHROMIUM=install needs root and apt-get; install chromium yourself' >&2
        exit 1
    fi
fi

cat >&2 <<'TEXT'
**********************************************************************
*  NO CHROMIUM FOUND: the browser tests will be SKIPPED.             *
*  Install it (Debian: apt-get install chromium), or as root say     *
*  `make test CHROMIUM=install`.                                     *
**********************************************************************
TEXT
