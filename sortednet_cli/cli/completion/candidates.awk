# Print what may stand at the cursor of a sortednet command line, one `WORD<tab>MEANING` a line.
#
# Standard input is the table of commands. The arguments are the number of words after `sortednet`,
# these words up to the cursor, and the manifests of runs and artifacts. The lines `:files` and
# `:folders` ask the shell for its own. POSIX awk, for mawk, gawk, BusyBox and macOS.

BEGIN {
    FS = "\t"
    count = ARGV[1]
    for (i = 1; i <= count; i++) word[i] = ARGV[i + 1]
    for (i = count + 2; i < ARGC; i++) manifest[++manifests] = ARGV[i]
    ARGC = 1
    current = word[count]
}

{ # command, option or number of an argument, what it takes, meaning
    takes[$1, $2] = $3
    row[NR, "command"] = $1; row[NR, "name"] = $2; row[NR, "meaning"] = $4
}

END {
    command = count > 1 ? word[1] : ""
    read_line()
    argument = takes[command, arguments + 1]
    if (argument == "") argument = takes[command, "+"]
    if (waiting != "")
        values(takes[command, waiting], "")
    else if (current ~ /^--?[a-z-]+=/) {
        equals = index(current, "=")
        values(takes[command, substr(current, 1, equals - 1)], substr(current, 1, equals))
    } else if (current !~ /^-/ && argument != "" && !trains_anew())
        values(argument, "")
    else
        for (i = 1; i <= NR; i++)
            if (row[i, "command"] == command && row[i, "name"] ~ /^-/)
                offer(row[i, "name"], row[i, "meaning"])
}

function trains_anew() { return command == "train" && !resumes }

# Find the arguments before the cursor, and an option that waits for its value.
function read_line(    i) {
    for (i = 2; i < count; i++) {
        if (word[i] !~ /^-/) {
            if (++arguments == 1) source = word[i]
        } else if (takes[command, word[i]] != "") {
            if (++i == count) waiting = word[i - 1]
        } else if (word[i] == "--resume") resumes = 1
    }
}

function offer(text, meaning) {
    if (substr(text, 1, length(current)) != current) return 0
    print text "\t" meaning
    return 1
}

# Offer the values of an option or argument, each after a prefix such as `--width=`.
function values(kind, prefix,    list, number, i, name) {
    if (kind == "@commands") {
        for (i = 1; i <= NR; i++)
            if (row[i, "name"] == "") offer(row[i, "command"], row[i, "meaning"])
    } else if (kind ~ /^@runs/) {
        if (!runs(kind)) print ":folders"
    } else if (kind == "@axes") {
        name = substr(current, length(prefix) + 1)
        if (index(name, "=")) {
            sub(/=.*/, "", name)
            axis(name, prefix name "=")
        } else {
            read_space()
            for (i = 1; i <= axes; i++) offer(prefix axis_name[i] "=", "")
        }
    } else if (kind ~ /^@axis /)
        axis(substr(kind, 7), prefix)
    else if (kind ~ /^:/)
        print kind
    else {
        number = split(kind == "?" ? "" : kind, list, " ")
        for (i = 1; i <= number; i++) offer(prefix list[i], "")
    }
}

# Offer runs, and return how many: `@runs` all and artifacts too, `@runs training` those to resume,
# `@runs extracted` artifacts alone.
function runs(kind,    i, folder, number, wanted) {
    for (i = 1; i <= manifests; i++) {
        folder = manifest[i]
        sub(/\/[^\/]*$/, "", folder)
        if (kind == "@runs training") wanted = when_finished(manifest[i]) == -1
        else wanted = kind == "@runs" || manifest[i] ~ /sortednet\.json$/
        if (wanted) number += offer(folder, "")
    }
    return number
}

# When a run was finished, in seconds; -1 while it trains, -2 if its manifest says neither.
function when_finished(path,    line, found) {
    found = -2
    while ((getline line < path) > 0) {
        if (line ~ /"state": *"training"/) found = -1
        if (match(line, /"finished": *[0-9.]+/)) {
            found = substr(line, RSTART, RLENGTH)
            sub(/.*: */, "", found)
            found += 0
        }
    }
    close(path)
    return found
}

function axis(name, prefix,    i, list, number) {
    read_space()
    number = split(axis_values[name], list, /[ ,]+/)
    for (i = 1; i <= number; i++) {
        sub(/\.0$/, "", list[i])
        if (list[i] != "") offer(prefix list[i], "")
    }
}

# Read the search space of the run or artifact on the line, or of the newest finished run.
function read_space(    i, time, newest, line, text, inside) {
    for (i = 1; source == "" && i <= manifests; i++)
        if (manifest[i] ~ /run\.json$/ && (time = when_finished(manifest[i])) > newest + 0) {
            newest = time
            text = manifest[i]
        }
    if (source == "") source = substr(text, 1, length(text) - length("/run.json"))
    text = ""
    while ((getline line < (source "/spec.toml")) > 0) {
        sub(/#.*/, "", line)
        if (line ~ /^\[[a-z]/) inside = line ~ /^\[space\]/
        else if (inside) text = text " " line
    }
    while ((getline line < (source "/sortednet.json")) > 0) {
        if (line ~ /^ *"space": *\{/) inside = 1
        else if (inside && line ~ /\}/) inside = 0
        else if (inside) {
            gsub(/"/, "", line)
            sub(/:/, " =", line)
            text = text " " line
        }
    }
    while (match(text, /[a-z_]+ *= *\[[^]]*\]/)) {
        line = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        axis_name[++axes] = substr(line, 1, match(line, / *=/) - 1)
        gsub(/^[^[]*\[ *|[ ,]*\]$/, "", line)
        axis_values[axis_name[axes]] = line
    }
}
