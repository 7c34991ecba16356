# Texts that people write, taken apart into items that each end with NUL. Nothing is ever evaluated:
# a dollar sign, a backtick or a semicolon is a character like any other.

nl='
'
tab='	'
return_char=$(printf '\r')
backspace=$(printf '\b')
formfeed=$(printf '\f')

# words TEXT: a JSON list of strings, or words as a shell would split them: blanks separate, quotes
# and backslashes keep them together. Fails on a quote that isn't closed and on other JSON.
words() {
	rest=$1
	skip_blanks
	case $rest in
	'['*) json_list ;;
	*) shell_words ;;
	esac
}

# Sets `char` to the first character of `rest` and takes it away.
next_char() {
	char=${rest%"${rest#?}"}
	rest=${rest#?}
}

skip_blanks() {
	while :; do
		case $rest in
		[" $tab$nl$return_char"]*) rest=${rest#?} ;;
		*) return 0 ;;
		esac
	done
}

shell_words() {
	word='' open=''
	while [ -n "$rest" ]; do
		chunk=${rest%%[" $tab$nl$return_char\"'\\"]*}
		if [ -n "$chunk" ]; then
			word=$word$chunk open=1
			rest=${rest#"$chunk"}
			continue
		fi
		next_char
		case $char in
		"'")
			case $rest in *"'"*) ;; *) return 1 ;; esac
			word=$word${rest%%"'"*} open=1
			rest=${rest#*"'"}
			;;
		'"')
			double_quoted || return 1
			open=1
			;;
		\\)
			[ -n "$rest" ] || return 1
			next_char
			word=$word$char open=1
			;;
		*)
			[ -z "$open" ] || printf '%s\0' "$word"
			word='' open=''
			;;
		esac
	done
	[ -z "$open" ] || printf '%s\0' "$word"
}

# Appends to `word` what stands before the closing quote. As in a shell, a backslash only protects
# quote, backslash, dollar sign, backtick and newline here.
double_quoted() {
	while :; do
		chunk=${rest%%[\"\\]*}
		word=$word$chunk
		rest=${rest#"$chunk"}
		[ -n "$rest" ] || return 1
		next_char
		[ "$char" = \\ ] || return 0
		[ -n "$rest" ] || return 1
		next_char
		case $char in
		[\"\\\$\`]) word=$word$char ;;
		"$nl") ;;
		*) word=$word\\$char ;;
		esac
	done
}

json_list() {
	rest=${rest#?}
	skip_blanks
	case $rest in
	']'*) rest=${rest#?} ;;
	*)
		while :; do
			skip_blanks
			next_char
			[ "$char" = '"' ] || return 1
			json_string || return 1
			printf '%s\0' "$word"
			skip_blanks
			next_char
			case $char in
			,) ;;
			']') break ;;
			*) return 1 ;;
			esac
		done
		;;
	esac
	skip_blanks
	[ -z "$rest" ]
}

# Sets `word` to a JSON string whose opening quote is already gone.
json_string() {
	word=''
	while :; do
		chunk=${rest%%[\"\\]*}
		word=$word$chunk
		rest=${rest#"$chunk"}
		[ -n "$rest" ] || return 1
		next_char
		[ "$char" = \\ ] || return 0
		next_char
		case $char in
		[\"\\/]) word=$word$char ;;
		b) word=$word$backspace ;;
		f) word=$word$formfeed ;;
		n) word=$word$nl ;;
		r) word=$word$return_char ;;
		t) word=$word$tab ;;
		u) json_unicode || return 1 ;;
		*) return 1 ;;
		esac
	done
}

# Takes four hexadecimal digits from `rest` as the number `code`.
hex_digits() {
	case $rest in
	[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f]*) ;;
	*) return 1 ;;
	esac
	code=$((0x${rest%"${rest#????}"}))
	rest=${rest#????}
}

# Appends the character of a \u escape (of two, for what lies beyond 16 bits) to `word` as UTF-8.
json_unicode() {
	hex_digits && [ "$code" -gt 0 ] || return 1
	if [ "$code" -ge 55296 ] && [ "$code" -lt 56320 ]; then
		high=$code
		case $rest in \\u*) rest=${rest#??} ;; *) return 1 ;; esac
		hex_digits && [ "$code" -ge 56320 ] && [ "$code" -lt 57344 ] || return 1
		code=$((65536 + (high - 55296) * 1024 + code - 56320))
	elif [ "$code" -ge 56320 ] && [ "$code" -lt 57344 ]; then
		return 1
	fi
	if [ "$code" -lt 128 ]; then
		octets=$code
	elif [ "$code" -lt 2048 ]; then
		octets="$((192 + code / 64)) $((128 + code % 64))"
	elif [ "$code" -lt 65536 ]; then
		octets="$((224 + code / 4096)) $((128 + code / 64 % 64)) $((128 + code % 64))"
	else
		octets="$((240 + code / 262144)) $((128 + code / 4096 % 64))"
		octets="$octets $((128 + code / 64 % 64)) $((128 + code % 64))"
	fi
	for octet in $octets; do
		# The letter behind it keeps a newline from being stripped.
		octet=$(printf '%b.' "\\0$((octet / 64))$((octet / 8 % 8))$((octet % 8))")
		word=$word${octet%.}
	done
}

# env_file: variables from standard input, one NAME=VALUE a line, `export` before it allowed. Blank
# lines and lines that start with # count for nothing. A value may be quoted as a whole and then
# span lines: in single quotes everything stands for itself; in double quotes a backslash protects
# as in a shell. Nothing is replaced or run. Fails, after the rest was read, if a line was no use.
env_file() {
	bad=0
	while IFS= read -r rest || [ -n "$rest" ]; do
		rest=${rest%"$return_char"}
		skip_blanks
		case $rest in '' | '#'*) continue ;; esac
		case $rest in "export "* | "export$tab"*) rest=${rest#export} && skip_blanks ;; esac
		name=${rest%%=*}
		case $rest in
		=* | "$name") bad=1 && continue ;;
		esac
		case $name in *[" $tab"]*) bad=1 && continue ;; esac
		rest=${rest#*=}
		case $rest in
		[\"\']*) quoted_value || { bad=1 && continue; } ;;
		*) word=$rest ;;
		esac
		printf '%s=%s\0' "$name" "$word"
	done
	return "$bad"
}

# Sets `word` to the quoted value that `rest` starts with, reading on until its quote closes.
quoted_value() {
	next_char
	quote=$char text=$rest
	while :; do
		word='' rest=$text
		if [ "$quote" = '"' ]; then
			if double_quoted; then break; fi
		else
			case $text in *"'"*) word=${text%%"'"*} && rest=${text#*"'"} && break ;; esac
		fi
		IFS= read -r line || [ -n "$line" ] || return 1
		text=$text$nl$line
	done
	skip_blanks
	case $rest in '' | '#'*) return 0 ;; esac
	return 1
}
