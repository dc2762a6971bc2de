"""The command: reads standard input, writes a word and its number a line."""

import sys

from shared.words import count

if __name__ == "__main__":
    for word, number in count(sys.stdin.read()).items():
        print(f"{number} {word}")
