#compdef sortednet
# Completion of sortednet for zsh, written by `sortednet completion zsh`.

_sortednet_table={table}

_sortednet_program={program}

_sortednet() {
    local line text
    local -a found meanings manifests
    manifests=(runs/*/run.json(N) artifacts/*/sortednet.json(N))
    while IFS= read -r line; do
        text=${line%%$'\t'*}
        case $text in
            :files) compset -P '--[a-z-]##='; _files ;;
            :folders) compset -P '--[a-z-]##='; _files -/ ;;
            *=) compadd -S '' -- "$text" ;;
            *)
                found+=("$text")
                meanings+=("${text}${${line#*$'\t'}:+  -- ${line#*$'\t'}}")
                ;;
        esac
    done < <(
        print -r -- "$_sortednet_table" |
            awk "$_sortednet_program" $((CURRENT - 1)) "${(@Q)words[2,CURRENT-1]}" "$PREFIX" \
                "${manifests[@]}"
    )
    (( ${#found} )) && compadd -V sortednet -l -d meanings -- "${found[@]}"
}

if [[ ${funcstack[1]} == _sortednet ]]; then
    _sortednet "$@"
else
    compdef _sortednet sortednet
fi
