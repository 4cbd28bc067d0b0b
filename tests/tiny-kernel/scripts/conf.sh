# Kconfig, as far as this tree needs it: keeps known symbols, and drops those that depend on NEVER.
touch .config
awk '
	FILENAME == ".config" { if (match($0, /^CONFIG_[A-Z0-9_]*=/)) value[substr($0, 8, RLENGTH - 8)] = substr($0, RLENGTH + 1); next }
	/^config / { name = $2; order[++n] = name }
	/depends on NEVER/ { delete value[name] }
	END { for (i = 1; i <= n; i++) if (order[i] in value && value[order[i]] != "n") print "CONFIG_" order[i] "=" value[order[i]]; else print "# CONFIG_" order[i] " is not set" }
' .config Kconfig > .config.new && { if cmp -s .config .config.new; then rm .config.new; else mv .config.new .config; fi; }
