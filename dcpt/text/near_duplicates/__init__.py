"""Near-duplicates: documents that share most of their text, found with MinHash.

A document is its set of shingles, which are runs of ``SHINGLE_WORDS`` words without case and
punctuation. Two documents are near-copies if the Jaccard similarity of their sets reaches a
threshold. ``shingles`` makes the sets and their signatures, ``candidates`` finds the pairs, and
``screen`` applies both to prepared text.
"""
