# Completion of sortednet for bash 3.2 and newer, written by `sortednet completion bash`.

_sortednet_table={table}

_sortednet_program={program}

_sortednet() {
    local word line quote i
    local -a words=() manifests=()
    # bash splits words at `=` and `:`; join them again.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ${#words[@]} -gt 0 && ($word == [=:]* || ${words[${#words[@]} - 1]} == *[=:]) ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
    for i in "${!words[@]}"; do  # what quotes and escapes mean
        quote=
        case ${words[i]} in
            [\'\"]*)
                quote=${words[i]:0:1}
                words[i]=${words[i]#?}
                words[i]=${words[i]%"$quote"}
                ;;
            *\\*) IFS= read "words[$i]" <<<"${words[i]}" ;;
        esac
    done
    local current=${words[${#words[@]} - 1]}
    local kept=${current%"${current##*[=:]}"}  # readline replaces what follows the last of these
    for word in runs/*/run.json artifacts/*/sortednet.json; do
        [[ ! -e $word ]] || manifests+=("$word")  # a pattern that matches nothing stays as it is
    done
    COMPREPLY=()
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        case $line in
            :files) compopt -o default 2>/dev/null ;;
            :folders) compopt -o dirnames 2>/dev/null ;;
            *=) compopt -o nospace 2>/dev/null; COMPREPLY+=("${line#"$kept"}") ;;
            *)
                line=${line#"$kept"}
                case $quote in  # a name of a folder may be a command
                    "'") [[ $line != *"'"* ]] || continue ;;
                    '"') [[ $line != *[\"\$\`\\]* ]] || continue ;;
                    *) printf -v line %q "$line" ;;
                esac
                COMPREPLY+=("$line")
                ;;
        esac
    done < <(
        printf '%s\n' "$_sortednet_table" |
            awk "$_sortednet_program" "${#words[@]}" "${words[@]}" "${manifests[@]}"
    )
    compopt -o nosort 2>/dev/null
    return 0
}

complete -F _sortednet sortednet
