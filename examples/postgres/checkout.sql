\set customer random(1, 5000)
\set id random(1, 2000)
BEGIN;
INSERT INTO orders (customer, city, total, placed) VALUES (:customer, 'Porto', 42, current_date);
UPDATE products SET rank = rank + 1 WHERE id = :id;
END;
