#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Heavy hitters, with curl: who sends more than a tenth of all packets that a
# host receives? Ask a parent agent and the answer speaks for all hosts below
# it:
#     heavy_hitters.sh 10.0.0.5 [PROTO [SECONDS]]
[ $# -ge 1 ] || { echo "usage: $0 AGENT [PROTO [SECONDS]]" >&2; exit 2; }
agent=$1 proto=${2:-all} seconds=${3:-10}

ask() {
	reply=$(curl --silent --show-error --fail-with-body --max-time 5 \
		--data "$1" "http://$agent:8000/") ||
		{ echo "$reply" >&2; exit 1; }
}

ask "type=config sketch&interface=INPUT&proto=$proto"
counter="sketch_id=$reply&counter_key_type=src&increment=pkt"
ask "type=config sketch counter&$counter"
echo "counting for $seconds s"
sleep "$seconds"

# {"10.0.0.6": 20, "10.0.0.7": 18}, the largest first
ask "type=query heavy hitters&$counter"
echo "$reply" | sed 's/[{}"]//g; s/, /\n/g' | sed 's/\(.*\): \(.*\)/\2 \1/'
