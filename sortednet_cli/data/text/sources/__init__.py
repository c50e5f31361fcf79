"""Sources of texts, one file each. No torch until one is read.

A source of another package is a subclass of `TextSource`, named by an entry point of the group
`sortednet.sources`.
"""
