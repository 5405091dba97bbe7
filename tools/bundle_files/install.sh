#!/bin/sh
# Install weighin-agent without a network: sh install.sh [FOLDER]
here=$(cd "$(dirname "$0")" && pwd) || exit 1
for python in python@PYTHON@ python3 python; do
  if "$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "@PYTHON@")' 2>/dev/null; then
    exec "$python" -I "$here/install.py" "$@"
  fi
done
echo "install: Python @PYTHON@ is not found here; install it, or take the bundle for the Python that is" >&2
exit 1
