"""The names that columns are known by, in every table: interactions, items and features."""

from __future__ import annotations

from collections.abc import Sequence

ROLES = ("user", "item", "rating", "timestamp")
"""Of the columns of interactions."""

KNOWN = {
    "user": "userid user uid reviewerid customerid visitorid sessionid session username memberid",
    "item": "itemid item iid movieid movie parentasin asin productid product isbn bookid trackid "
    "songid articleid businessid gameid newsid venueid artistid animeid recipeid poiid sku "
    "stockcode",
    "rating": "rating score stars overall bookrating",
    "timestamp": "timestamp time ts datetime date unixreviewtime unixtime unixtimestamp eventtime "
    "utctime createdat invoicedate",
    "history": "itemidlist itemlist itemids items itemsequence itemseq history sequence",
    "title": "title name movietitle booktitle productname",
    "genres": "genres genre categories category class tags",
    "description": "description plot overview summary text",
    "image": "image imagepath picture poster photo images imageurl imageurll imageurlm imageurls",
}
"""By role or field, the first that is there; case and marks do not count. Of an item's two ids at
Amazon the parent's comes first: a product's colours and sizes share it, and its title."""
IDS = "id ids"
"""What a table in which a row is an item may call its ids as well."""


def find_column(
    field: str, names: Sequence[str], asked: str | None = None, row_is_item: bool = False
) -> str | None:
    """The column of a role or field: the one asked for, or the known name that comes first.

    None where the table has no such column. `row_is_item`: of a table of items, or of features.
    """
    if asked is not None:
        return asked if asked in names else None
    known = KNOWN[field].split()
    if field == "item" and row_is_item:
        known += IDS.split()
    plain = [_plain(name) for name in names]
    found = next((name for name in known if name in plain), None)
    return None if found is None else names[plain.index(found)]


def _plain(name: str) -> str:
    """A column's name without RecBole's type, case and marks."""
    return "".join(c for c in name.split(":")[0].lower() if c.isalnum())
