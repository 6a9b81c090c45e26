#!/bin/sh
# /etc/nginx/templates/*.template -> /etc/nginx/conf.d/*, with the environment's variables (and no others) filled in.
set -e
[ -d /etc/nginx/templates ] || exit 0
defined=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | tr '\n' ' ')
for t in /etc/nginx/templates/*.template; do
  [ -f "$t" ] || continue
  out=${t##*/}
  envsubst "$defined" < "$t" > "/etc/nginx/conf.d/${out%.template}"
done
