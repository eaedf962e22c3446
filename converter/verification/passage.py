"""The text on which a file and its source are compared: several kinds of writing, so that many weights take part.

The kinds take turns in short paragraphs: a comparison limited to the beginning still meets all of them.
"""

PASSAGE = """\
The harbour was quiet before sunrise. Two fishermen mended a net on the quay, and a cat watched them from a barrel \
that smelled of salt and tar. When the first boat came in, its engine coughed twice and stopped; the older man \
raised his hand, and somebody on board answered with a whistle. "How many?" he asked. "Enough for the market," said \
the voice, "and a few for your cat."

def mean(values):
    \"\"\"Return the arithmetic mean of a non-empty sequence.\"\"\"
    total = 0.0
    for value in values:
        total += value
    return total / len(values)

A list is a mutable sequence of objects. Indexing starts at zero, negative indices count from the end, and a slice \
returns a new list that holds references to the same items. If the index is out of range, an IndexError is raised. \
To remove every item, call the clear() method or delete the slice that covers the whole list.

In 1895 the town had 4,312 inhabitants; by 1931 there were 11,908, and the census of 1961 counted 27,540. The rail \
line, 86.4 km long, took 7 years to build and cost 3.2 million, about 19% more than planned. At 07:45 each morning \
a train left platform 2, and at 18:10 it came back with half as many passengers.

Le musée ouvre à dix heures et ferme à dix-huit heures, sauf le lundi. Der Zug nach München hat heute ungefähr zwanzig \
Minuten Verspätung. La biblioteca está cerrada durante las fiestas, pero el café de la plaza sigue abierto.

Water expands when it freezes, which is why ice floats and why pipes burst in winter. Most substances do the opposite: \
their solid form is denser than the liquid, so a frozen piece sinks. The difference comes from the shape of the \
molecule. In ice each one holds four neighbours at a fixed distance, and that open lattice takes up more room than \
the crowded disorder of the liquid.

import json
from pathlib import Path

def load_settings(path, default=None):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {} if default is None else dict(default)

The function reads a file and returns a dictionary. When the file does not exist, the default is copied, so that the \
caller may change the result without surprise. Any other error, such as a missing permission or text that is not \
valid, is passed on to the caller, because hiding it would only move the problem elsewhere.

Dear Martha, thank you for the seeds and for the long letter. The tomatoes came up within a week, the beans are \
climbing over the fence, and something I did not plant has taken the corner by the gate. I have decided to like it. \
If the weather holds we will walk to the lake on Sunday; bring your brother, and bring good shoes.

Идёт дождь. 今日は雨。 天气很好。

Name      Qty   Price    Total
apples     12    0.35     4.20
bread       3    2.80     8.40
coffee      1    9.95     9.95

To prove that there are infinitely many primes, suppose there were only finitely many and multiply them all together. \
Add one to the product. The result leaves a remainder of one when divided by any prime on the list, so it is either a \
new prime itself or has a prime factor that the list does not contain. Either way the list was not complete.

SELECT city, COUNT(*) AS visits FROM journeys WHERE year >= 2019 GROUP BY city ORDER BY visits DESC LIMIT 5;

The committee met three times that spring and agreed on nothing except the date of the next meeting. The chair wanted \
a bridge, the treasurer wanted a smaller bridge, and the secretary, who lived on the other bank, wanted to be left in \
peace. In the end they painted the ferry. It was a handsome green, and for several years everyone who crossed the \
river on it remarked that no bridge could have been half as pleasant.
"""
