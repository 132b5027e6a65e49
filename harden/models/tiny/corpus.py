"""The text that the tiny model's tokenizer is trained on.

Its words become the vocabulary, and so the only words that the model ever answers with. Plain
ASCII on purpose: a token that ends inside a character would be held back when streaming.
"""

from __future__ import annotations

import re

__all__ = ["TEXT", "words"]

TEXT = """
The harbour wakes before the town. A lamp swings over the door of the first shed, and two men
carry nets down to the boat. The water is flat and grey, and a cold wind comes from the north.
Nobody talks much at this hour. One of them counts the ropes, the other looks for rain. When the
engine starts, the birds rise from the wall and settle again behind the boat.

On the hill above the harbour stands a small school with a green roof. Twenty children learn to
read there, to write letters, and to add long numbers without paper. Their teacher grew up on a
farm, and she brings apples, seeds and old maps to class. In spring they plant beans along the
fence. In autumn they measure the leaves, draw them, and keep the best ones in a heavy book.

A train leaves every morning at seven and comes back in the evening. It passes the mill, the
bridge, the stone quarry and a field where horses graze. The driver knows each signal by heart.
If the river is high he slows down near the bridge, and if snow lies on the line he waits until a
plough has been through. Travellers read, sleep, eat bread with cheese, or watch the clouds.

The baker begins at three. Flour, water, salt and time are all that he needs, he says, and
patience is the fifth. He weighs the dough, folds it, lets it rest, and folds it once more. The
oven is older than his father. When the crust turns brown he taps the loaf and listens: a hollow
sound means that it is done. By six the street smells of bread, and a queue stands at his window.

An engineer keeps watch over the servers. Each server answers many questions at the same time. A
request arrives, waits for its turn, gets an answer and leaves. When memory runs low, the oldest
entry in the cache is dropped. When a worker stops, another takes its place, and the request is
sent again, so that no client notices. She writes down what failed, at which hour, and how long
the repair took. A quiet night is the result of careful work, not of luck.

In the library the floor creaks. Shelves reach up to the ceiling, full of stories about islands,
kings, machines, storms and stars. The keeper of the library has read most of them. Ask her for a
book on clocks and she will find three; ask her for silence and she will close the door. Rain
drums on the glass roof while a boy turns pages, one after another, until the light goes out.

The doctor walks from house to house with a leather bag. She looks at throats, binds fingers,
listens to hearts and to complaints. Sleep well, drink enough, walk a little every day: her advice
rarely changes, and it rarely fails. At the last house an old man offers her tea and plums. They
speak of the summer, of the dry well, and of his daughter, who builds bridges in a far country.

Music comes from the room under the roof. Someone plays the violin, badly at first, then better,
then so well that people stop in the street. A window opens. The painter across the yard puts
down his brush and waits for the next song. Yellow, red, blue, white and black are drying on his
hands. He has painted the same tree for eleven years and says that it is never the same tree.

Late at night the market is empty. A cat crosses the square, a paper bag rolls over the ground,
and the clock above the town hall strikes twelve. Tomorrow there will be fish, carrots, onions,
honey, wool and iron nails, and loud voices from every side. Now only the moon looks down on the
tables. Far away a dog barks, a ship answers with its horn, and then the whole coast is still.

What is the name of this river? How many steps lead to the tower? Why does iron rust, and who
invented the wheel? Please tell me a short story about a fox. Explain in simple words how a
compass works. Write one sentence about winter. Count from one to ten. List five animals. Thank
you, that is very kind. Yes, of course. No, I do not think so. Hello, how are you today?
"""


def words() -> frozenset[str]:
    """The words of the text, as written."""
    return frozenset(re.findall(r"[A-Za-z]+", TEXT))
