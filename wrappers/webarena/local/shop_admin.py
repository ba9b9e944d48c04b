"""The local shop's administration: orders, products, customers, reviews to approve, and a report of sales."""

from __future__ import annotations

from html import escape

from .shop import ORDERS, items
from .web import Request, Response, Site, choice, form, link, money, paragraph, redirect, table, textbox

SHOP_ADMIN = Site(
    "shopping_admin", "Market Hall Admin",
    {"Dashboard": "/", "Orders": "/orders", "Products": "/products", "Customers": "/customers",
     "Pending Reviews": "/reviews", "Bestsellers": "/bestsellers"},
    "/login", "Username", "Sign in",
)  # fmt: skip
STATUSES = ("Any", "Complete", "Pending", "Canceled", "Processing")
MONTHS = ("January", "February", "March", "April", "May", "June")


@SHOP_ADMIN.get("/")
def dashboard(request: Request) -> Response:
    counts = [
        request.db.execute(f"SELECT COUNT(*) FROM {one}").fetchone()[0] for one in ("orders", "products", "customers")
    ]
    body = paragraph(
        *(f"{count} {name}" for count, name in zip(counts, ("orders", "products", "customers"), strict=True))
    )
    return SHOP_ADMIN.page(request, "Dashboard", body)


@SHOP_ADMIN.get("/orders")
def orders(request: Request) -> Response:
    status = request.values.get("status", "Any")
    where, values = ("WHERE status=?", (status,)) if status in STATUSES[1:] else ("", ())
    rows = request.db.execute(f"{ORDERS} {where} GROUP BY number ORDER BY number DESC", values).fetchall()
    cells = [
        (number, day, status_, money(total), link(request, f"/order/{number}", f"View {number}"))
        for number, day, status_, total in rows
    ]
    body = form(request, "/orders", choice("Status", "status", STATUSES, status), "Filter", "get")
    body += paragraph(f"{len(rows)} orders found") + table(("Order", "Date", "Status", "Total", ""), cells)
    return SHOP_ADMIN.page(request, "Orders", body)


@SHOP_ADMIN.get("/order/([0-9]+)")
def order(request: Request, number: str) -> Response:
    row = request.db.execute(f"{ORDERS} WHERE number=?", (number,)).fetchone()
    if row[0] is None:
        return SHOP_ADMIN.page(request, "Not found", paragraph("There is no such order."), 404)
    _, day, status, total = row
    body = (
        paragraph(f"Date: {day}", f"Order status: {status}")
        + items(request, number)
        + paragraph(f"Total: {money(total)}")
    )
    buttons = "".join(form(request, f"/order/{number}/{to}", "", text) for to, text in _MOVES.items())
    return SHOP_ADMIN.page(request, f"Order {number}", body + buttons)


_MOVES = {"Canceled": "Cancel Order", "Complete": "Ship Order"}


@SHOP_ADMIN.post("/order/([0-9]+)/(Canceled|Complete)")
def move_order(request: Request, number: str, status: str) -> Response:
    request.db.execute("UPDATE orders SET status=? WHERE number=?", (status, number))
    return redirect(request, f"/order/{number}")


@SHOP_ADMIN.get("/products")
def products(request: Request) -> Response:
    words = request.values.get("q", "")
    rows = request.db.execute(
        "SELECT sku, name, price, stock FROM products WHERE name LIKE ? ORDER BY name", (f"%{words}%",)
    )
    cells = [
        (link(request, f"/product/{sku}", name), money(price), f"{stock} left") for sku, name, price, stock in rows
    ]
    body = form(request, "/products", textbox("Search products", "q", words), "Search", "get")
    return SHOP_ADMIN.page(request, "Products", body + table(("Product", "Price", "Stock"), cells))


@SHOP_ADMIN.get("/product/([A-Z0-9]+)")
def product(request: Request, sku: str) -> Response:
    row = request.db.execute("SELECT name, price, stock FROM products WHERE sku=?", (sku,)).fetchone()
    if row is None:
        return SHOP_ADMIN.page(request, "Not found", paragraph("There is no such product."), 404)
    name, price, stock = row
    fields = textbox("New price", "price", f"{price:.2f}") + textbox("New stock", "stock", str(stock))
    body = paragraph(f"Price: {money(price)}", f"Stock: {stock} left") + form(
        request, f"/product/{sku}", fields, "Save Product"
    )
    return SHOP_ADMIN.page(request, name, body)


@SHOP_ADMIN.post("/product/([A-Z0-9]+)")
def save_product(request: Request, sku: str) -> Response:
    try:
        price, stock = float(request.values.get("price", "")), int(request.values.get("stock", ""))
    except ValueError:
        return redirect(request, f"/product/{sku}")
    request.db.execute("UPDATE products SET price=?, stock=? WHERE sku=?", (price, stock, sku))
    return redirect(request, f"/product/{sku}")


@SHOP_ADMIN.get("/customers")
def customers(request: Request) -> Response:
    rows = request.db.execute("SELECT name, email, phone, city FROM customers ORDER BY name")
    cells = [[escape(one) for one in row] for row in rows]
    return SHOP_ADMIN.page(request, "Customers", table(("Name", "Email", "Phone", "City"), cells))


@SHOP_ADMIN.get("/reviews")
def reviews(request: Request) -> Response:
    rows = request.db.execute(
        "SELECT id, author, stars, name FROM reviews JOIN products USING (sku)"
        " WHERE reviews.status='pending' ORDER BY author"
    )
    cells = [
        (escape(author), f"{stars} stars", escape(name), form(request, f"/review/{number}/approved", "", "Approve"),
         form(request, f"/review/{number}/rejected", "", "Reject"))
        for number, author, stars, name in rows
    ]  # fmt: skip
    body = table(("By", "Rating", "Product", "", ""), cells)
    done = request.db.execute("SELECT COUNT(*) FROM reviews WHERE status='rejected'").fetchone()[0]
    body += paragraph(f"{done} reviews were rejected") + link(request, "/reviews/approved", "Approved Reviews")
    return SHOP_ADMIN.page(request, "Pending Reviews", body)


@SHOP_ADMIN.get("/reviews/approved")
def approved(request: Request) -> Response:
    rows = request.db.execute(
        "SELECT author, title, name FROM reviews JOIN products USING (sku) WHERE reviews.status='approved'"
        " ORDER BY id DESC LIMIT 60"
    )
    cells = [[escape(one) for one in row] for row in rows]
    return SHOP_ADMIN.page(request, "Approved Reviews", table(("By", "Title", "Product"), cells))


@SHOP_ADMIN.post("/review/([0-9]+)/(approved|rejected)")
def decide(request: Request, number: str, status: str) -> Response:
    request.db.execute("UPDATE reviews SET status=? WHERE id=?", (status, int(number)))
    return redirect(request, "/reviews")


@SHOP_ADMIN.get("/bestsellers")
def bestsellers(request: Request) -> Response:
    month = request.values.get("month", MONTHS[0])
    number = MONTHS.index(month) + 1 if month in MONTHS else 1
    rows = request.db.execute(BESTSELLERS, (f"2023-{number:02d}-%",))
    cells = [(escape(name), f"{pieces} sold") for name, pieces in rows]
    body = form(request, "/bestsellers", choice("Month", "month", MONTHS, month), "Show Report", "get")
    return SHOP_ADMIN.page(request, f"Bestsellers of {month} 2023", body + table(("Product", "Quantity"), cells))


BESTSELLERS = """SELECT name, SUM(quantity) AS pieces FROM items JOIN orders USING (number) JOIN products USING (sku)
    WHERE day LIKE ? AND status != 'Canceled' GROUP BY sku ORDER BY pieces DESC, name LIMIT 5"""
