# Install weighin-agent without a network: powershell -ExecutionPolicy Bypass -File install.ps1 [FOLDER]
& py "-@PYTHON@" -I (Join-Path $PSScriptRoot "install.py") @args
exit $LASTEXITCODE
