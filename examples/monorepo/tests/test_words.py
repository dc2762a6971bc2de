import unittest

from shared.words import count


class Words(unittest.TestCase):
    def test_frequent_words_come_first(self) -> None:
        self.assertEqual(list(count("b a c B")), ["b", "a", "c"])
