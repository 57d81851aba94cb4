#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Anomalies of a whole network, with curl; the same as msnm.py, alarms as the
# root tells them:
#     msnm.sh 10.0.0.2 [WINDOW [ROWS]]
[ $# -ge 1 ] || { echo "usage: $0 ROOT [WINDOW [ROWS]]" >&2; exit 2; }
root=$1 window=${2:-60} rows=${3:-60} poll=1

ask() {
	reply=$(curl --silent --show-error --fail-with-body --max-time 10 \
		--data "$1" "http://$root:8000/") ||
		{ echo "$reply" >&2; exit 1; }
}

# What the reply says of a member whose value is a word or a number.
member() {
	echo "$reply" | grep -o "\"$1\": \"\?[^\",}]*" | head -n 1 |
		sed 's/.*: "\?//'
}

# A model of few rows holds few latent variables: one for 20 rows.
ask "type=config msnm&window_s=$window&rows=$rows&lv=$((rows < 40 ? 1 : rows / 20))"
until ask 'type=query msnm' && [ "$(member phase)" = watching ] &&
	{ [ "$(member stage)" = full ] ||
		echo "$reply" | grep -q '"children": {}'; }; do
	have=$(member have)
	echo "$(member phase): ${have:+$have of $(member need) intervals}"
	sleep "$window"
done
echo "watching $root"

last=$(member interval)
while sleep "$poll" && ask 'type=query msnm'; do
	[ "$(member interval)" != "$last" ] || continue
	last=$(member interval)
	[ "$(member alarm)" = 1 ] || continue
	echo "$(member start) alarm:"
	ask "type=query msnm diagnosis&interval=$last&flows=3"
	echo "$reply"
done
