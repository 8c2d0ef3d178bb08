\set id random(1, 2000)
\set customer random(1, 5000)
INSERT INTO carts VALUES (:customer, :id, 1) ON CONFLICT (customer, product) DO UPDATE SET quantity = carts.quantity + 1;
SELECT p.name, c.quantity, p.price * c.quantity AS cost FROM carts c JOIN products p ON p.id = c.product WHERE c.customer = :customer;
DELETE FROM carts WHERE customer = :customer AND quantity > 3;
