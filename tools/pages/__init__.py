"""What the nodes' schemas say, written where people read it: names, lists of the help pages, the README's node table.

Text between marks and the English names are generated; everything else on the pages is written by hand.
"""
