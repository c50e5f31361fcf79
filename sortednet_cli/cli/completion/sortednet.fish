# Completion of sortednet for fish, written by `sortednet completion fish`.

set -g __sortednet_table {table}

set -g __sortednet_program {program}

function __sortednet_paths --description 'Paths after an option such as --config='
    set -l option (string match -r '^--[a-z-]+=' -- $argv[2])
    for path in ($argv[1] (string replace -r '^--[a-z-]+=' '' -- $argv[2]))
        echo "$option$path"
    end
end

function __sortednet
    set -l token (commandline -ct)
    set -q token[1]; or set token ''
    set -l words (commandline -opc)[2..-1] $token
    set -l manifests runs/*/run.json artifacts/*/sortednet.json
    for line in (printf '%s\n' $__sortednet_table |
            awk $__sortednet_program (count $words) $words $manifests)
        switch $line
            case :files
                __sortednet_paths __fish_complete_path $token
            case :folders
                __sortednet_paths __fish_complete_directories $token
            case '*'
                echo $line
        end
    end
end

complete -c sortednet -f -k -a '(__sortednet)'
