\set id random(1, 2000)
\set customer random(1, 5000)
SELECT id, name, price FROM products WHERE id = :id;
SELECT quantity FROM carts WHERE customer = :customer AND product = :id;
INSERT INTO page_views (path, customer) VALUES ('/product/' || :id, :customer);
