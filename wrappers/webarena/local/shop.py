"""The local shop: catalogue, search, cart, wish list, reviews, orders and the customer's account."""

from __future__ import annotations

from html import escape

from .web import Request, Response, Site, address, area, choice, form, link, money, paragraph, redirect, table, textbox

SHOP = Site(
    "shopping", "Market Hall",
    {"Home": "/", "Kitchen": "/category/Kitchen", "Garden": "/category/Garden", "Office": "/category/Office",
     "Sport": "/category/Sport", "My Cart": "/cart", "My Wish List": "/wishlist", "My Orders": "/orders",
     "My Reviews": "/reviews", "My Account": "/account"},
    "/customer/account/login", "Email", "Sign In",
)  # fmt: skip
SORTS = {"Name": "name", "Price": "price", "Stars": "stars DESC"}


@SHOP.get("/")
def home(request: Request) -> Response:
    search = form(request, "/search", textbox("Search", "q"), "Search", "get")
    return SHOP.page(request, "Welcome", search + paragraph("Choose a category or search for a product."))


@SHOP.get("/search")
def search(request: Request) -> Response:
    words = request.values.get("q", "").split()
    where = " AND ".join(["name LIKE ?"] * len(words)) or "1"
    rows = request.db.execute(f"{_LISTED} WHERE {where} ORDER BY name", [f"%{one}%" for one in words]).fetchall()
    again = form(request, "/search", textbox("Search", "q", " ".join(words)), "Search", "get")
    return SHOP.page(request, "Search results", again + paragraph(f"{len(rows)} products") + _listed(request, rows))


@SHOP.get("/category/([A-Za-z]+)")
def category(request: Request, name: str) -> Response:
    sort = request.values.get("sort", "Name")
    order = SORTS.get(sort, "name")
    rows = request.db.execute(f"{_LISTED} WHERE category=? ORDER BY {order}", (name,)).fetchall()
    sorting = form(request, f"/category/{name}", choice("Sort by", "sort", SORTS, sort), "Sort", "get")
    return SHOP.page(request, name, sorting + _listed(request, rows))


_LISTED = """SELECT sku, name, price,
    (SELECT ROUND(AVG(stars), 1) FROM reviews WHERE reviews.sku=products.sku AND status='approved') AS stars
    FROM products"""


def _listed(request: Request, rows: list[tuple[str, str, float, float]]) -> str:
    cells = [
        (link(request, f"/product/{sku}", name), money(price), f"{stars} stars") for sku, name, price, stars in rows
    ]
    return table(("Product", "Price", "Rating"), cells)


@SHOP.get("/product/([A-Z0-9]+)")
def product(request: Request, sku: str) -> Response:
    row = request.db.execute("SELECT name, price, stock, description FROM products WHERE sku=?", (sku,)).fetchone()
    if row is None:
        return SHOP.page(request, "Not found", paragraph("There is no such product."), 404)
    name, price, stock, description = row
    body = paragraph(f"Price: {money(price)}", "In stock" if stock else "Out of stock", description)
    body += form(request, f"/cart/add/{sku}", textbox("Quantity", "quantity", "1"), "Add to Cart")
    body += form(request, f"/wishlist/add/{sku}", "", "Add to Wish List")
    reviews = request.db.execute(
        "SELECT author, stars, title FROM reviews WHERE sku=? AND status='approved' ORDER BY id", (sku,)
    )
    body += "<h2>Reviews</h2>" + table(
        ("By", "Rating", "Title"),
        [(escape(author), f"{stars} stars", escape(title)) for author, stars, title in reviews],
    )
    fields = choice("Rating", "stars", (5, 4, 3, 2, 1)) + textbox("Summary", "title") + area("Review", "body")
    return SHOP.page(
        request, name, body + "<h2>Write a review</h2>" + form(request, f"/review/{sku}", fields, "Submit Review")
    )


@SHOP.post("/review/([A-Z0-9]+)")
def review(request: Request, sku: str) -> Response:
    stars, title, body = (request.values.get(one, "") for one in ("stars", "title", "body"))
    if not title or stars not in ("1", "2", "3", "4", "5"):
        return redirect(request, f"/product/{sku}")
    row = (sku, "Mira Oland", int(stars), title, body, "pending")
    request.db.execute("INSERT INTO reviews VALUES (NULL,?,?,?,?,?,?)", row)
    return redirect(request, "/reviews")


@SHOP.get("/reviews")
def reviews(request: Request) -> Response:
    rows = request.db.execute(
        "SELECT name, stars, title, body, status FROM reviews JOIN products USING (sku) WHERE author='Mira Oland'"
    )
    cells = [
        (escape(name), f"{stars} stars", escape(title), escape(body), status)
        for name, stars, title, body, status in rows
    ]
    return SHOP.page(request, "My Reviews", table(("Product", "Rating", "Summary", "Review", "Status"), cells))


@SHOP.post("/cart/add/([A-Z0-9]+)")
def add_to_cart(request: Request, sku: str) -> Response:
    quantity = request.values.get("quantity", "")
    if not quantity.isdecimal() or not 0 < int(quantity) < 100:
        return redirect(request, f"/product/{sku}")
    request.db.execute(
        "INSERT INTO cart VALUES (?,?) ON CONFLICT (sku) DO UPDATE SET quantity=quantity+excluded.quantity",
        (sku, int(quantity)),
    )
    return redirect(request, "/cart")


@SHOP.get("/cart")
def cart(request: Request) -> Response:
    rows = request.db.execute(
        "SELECT sku, name, price, quantity FROM cart JOIN products USING (sku) ORDER BY name"
    ).fetchall()
    cells = [
        (link(request, f"/product/{sku}", name), money(price), f"{quantity} pieces",
         form(request, f"/cart/remove/{sku}", "", "Remove"))
        for sku, name, price, quantity in rows
    ]  # fmt: skip
    total = sum(price * quantity for _, _, price, quantity in rows)
    body = table(("Product", "Price", "Quantity", ""), cells) + paragraph(f"Total: {money(total)}")
    return SHOP.page(request, "My Cart", body + (form(request, "/checkout", "", "Place Order") if rows else ""))


@SHOP.post("/cart/remove/([A-Z0-9]+)")
def remove_from_cart(request: Request, sku: str) -> Response:
    request.db.execute("DELETE FROM cart WHERE sku=?", (sku,))
    return redirect(request, "/cart")


@SHOP.post("/checkout")
def checkout(request: Request) -> Response:
    (last,) = request.db.execute("SELECT MAX(number) FROM orders").fetchone()
    number = f"{int(last) + 1:09d}"
    request.db.execute("INSERT INTO orders VALUES (?,?,'2023-07-01','Pending')", (number, request.user))
    request.db.execute(
        "INSERT INTO items SELECT ?, sku, quantity, price FROM cart JOIN products USING (sku)", (number,)
    )
    request.db.execute("DELETE FROM cart")
    return redirect(request, f"/order/{number}")


@SHOP.post("/wishlist/add/([A-Z0-9]+)")
def wish(request: Request, sku: str) -> Response:
    request.db.execute("INSERT OR IGNORE INTO wishes VALUES (?)", (sku,))
    return redirect(request, "/wishlist")


@SHOP.get("/wishlist")
def wishlist(request: Request) -> Response:
    rows = request.db.execute("SELECT sku, name, price FROM wishes JOIN products USING (sku) ORDER BY name")
    cells = [(link(request, f"/product/{sku}", name), money(price)) for sku, name, price in rows]
    return SHOP.page(request, "My Wish List", table(("Product", "Price"), cells))


ORDERS = """SELECT number, day, status, SUM(quantity * price) FROM orders JOIN items USING (number)"""


@SHOP.get("/orders")
def orders(request: Request) -> Response:
    rows = request.db.execute(f"{ORDERS} WHERE email=? GROUP BY number ORDER BY number DESC", (request.user,))
    cells = [(number, day, status, link(request, f"/order/{number}", "View Order")) for number, day, status, _ in rows]
    return SHOP.page(request, "My Orders", table(("Order", "Date", "Status", ""), cells))


@SHOP.get("/order/([0-9]+)")
def order(request: Request, number: str) -> Response:
    row = request.db.execute(f"{ORDERS} WHERE email=? AND number=?", (request.user, number)).fetchone()
    if row[0] is None:
        return SHOP.page(request, "Not found", paragraph("There is no such order."), 404)
    _, day, status, total = row
    body = paragraph(f"Date: {day}", f"Status: {status}") + items(request, number)
    return SHOP.page(request, f"Order {number}", body + paragraph(f"Grand Total: {money(total)}"))


def items(request: Request, number: str) -> str:
    """The table of an order's products."""
    rows = request.db.execute(
        "SELECT name, items.price, quantity FROM items JOIN products USING (sku) WHERE number=?", (number,)
    )
    return table(
        ("Product", "Price", "Quantity"),
        [(escape(name), money(price), f"{pieces} pieces") for name, price, pieces in rows],
    )


@SHOP.get("/account")
def account(request: Request) -> Response:
    name, phone, city = request.db.execute(
        "SELECT name, phone, city FROM customers WHERE email=?", (request.user,)
    ).fetchone()
    body = paragraph(f"Name: {name}", f"Phone: {phone}", f"City: {city}")
    fields = textbox("Phone number", "phone", phone) + textbox("City", "city", city)
    return SHOP.page(request, "My Account", body + form(request, "/account", fields, "Save Account"))


@SHOP.post("/account")
def save_account(request: Request) -> Response:
    phone, city = request.values.get("phone", ""), request.values.get("city", "")
    request.db.execute("UPDATE customers SET phone=?, city=? WHERE email=?", (phone, city, request.user))
    return redirect(request, address("/account"))
