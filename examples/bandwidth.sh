#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Bandwidth between two hosts in MBytes/s, with curl:
#     bandwidth.sh 10.0.0.5 10.0.0.6
[ $# -eq 2 ] || { echo "usage: $0 AGENT DST" >&2; exit 2; }

exec curl --silent --show-error --fail-with-body --max-time 10 \
	--write-out '\n' --data-urlencode 'type=query bw' \
	--data-urlencode "src=$1" --data-urlencode "dst=$2" \
	"http://$1:8000/"
