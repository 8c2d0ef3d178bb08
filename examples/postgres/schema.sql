-- The shop: roles with one job each, and tables filled by formula (no random(): every recording starts the same).
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION fuzzystrmatch;

GRANT CREATE ON SCHEMA public TO shop_owner, report_ro;
GRANT ALL ON TABLESPACE cold TO shop_owner;
SET ROLE shop_owner;

CREATE TABLE products (id int PRIMARY KEY, name text, category text, price numeric, rank int);
CREATE TABLE customers (id int PRIMARY KEY, email text UNIQUE, city text, seen timestamptz);
CREATE TABLE orders (id bigserial PRIMARY KEY, customer int, city text, total numeric, placed date, note text);
CREATE TABLE order_lines (id bigserial PRIMARY KEY, order_id bigint REFERENCES orders, product int, quantity int, note text);
CREATE TABLE inventory (product int PRIMARY KEY, quantity int, CONSTRAINT inventory_not_negative CHECK (quantity >= 0 OR product < 0));
CREATE TABLE carts (customer int, product int, quantity int, PRIMARY KEY (customer, product));
CREATE TABLE payments (reference text CONSTRAINT payments_reference_key PRIMARY KEY, order_id bigint, amount numeric);
CREATE TABLE coupons (code text PRIMARY KEY, uses_left int CONSTRAINT coupons_uses_left_check CHECK (uses_left >= 0));
CREATE TABLE jobs (id bigserial PRIMARY KEY, queue text, payload text, done timestamptz);
CREATE TABLE wallet (id int PRIMARY KEY, balance numeric);
CREATE TABLE wallet_journal (id bigserial PRIMARY KEY, wallet int, amount numeric);
CREATE TABLE shipments (id int PRIMARY KEY, order_id bigint, state text);
CREATE INDEX shipments_order_id ON shipments (order_id);
CREATE TABLE price_history (product int, price numeric, since date, note text) WITH (autovacuum_enabled = off);
CREATE TABLE page_views (at timestamptz DEFAULT now(), path text, customer int);
CREATE TABLE orders_archive (LIKE orders) WITH (autovacuum_enabled = off) TABLESPACE cold;
CREATE SEQUENCE voucher_no MAXVALUE 9999;
CREATE TABLE vouchers (id int DEFAULT nextval('voucher_no'), customer int, amount numeric);
CREATE TABLE supplier_prices (product int, price numeric, loaded date);
CREATE TABLE returns (id bigserial PRIMARY KEY, order_id bigint CONSTRAINT returns_order_id_fkey REFERENCES orders, reason text);
CREATE MATERIALIZED VIEW sales_by_city AS SELECT city, sum(total) AS total FROM orders GROUP BY city;

INSERT INTO products SELECT n, (ARRAY['lamp','chair','table','shelf','rug','vase'])[n % 6 + 1] || ' ' || n, 'c' || n % 23, n % 190 + 5, 0 FROM generate_series(1, 2000) n;
INSERT INTO customers SELECT n, 'c' || n || '@example.org', (ARRAY['Graz','Lyon','Porto','Turku','Gdansk','Bergen'])[n % 6 + 1], now() FROM generate_series(1, 5000) n;
INSERT INTO orders (customer, city, total, placed, note) SELECT n % 5000 + 1, (ARRAY['Graz','Lyon','Porto','Turku','Gdansk'])[n % 5 + 1], n % 300, date '2026-01-01' + n % 90, repeat('o', n % 60) FROM generate_series(1, 12000) n;
INSERT INTO order_lines (order_id, product, quantity, note) SELECT n % 12000 + 1, n % 2000 + 1, n % 4 + 1, 'line ' || n * 7919 % 30000 FROM generate_series(1, 30000) n;
INSERT INTO inventory SELECT n, 100000 FROM generate_series(1, 2000) n;
INSERT INTO coupons VALUES ('SPRING', 0), ('WELCOME', 1000000), ('VIP10', 0);
INSERT INTO payments SELECT 'pay-' || n, n, 10 FROM generate_series(1, 3000) n;
INSERT INTO jobs (queue, payload) SELECT (ARRAY['mail','invoice','stock'])[n % 3 + 1], 'job ' || n FROM generate_series(1, 3000) n;
INSERT INTO wallet SELECT n, 1000 FROM generate_series(1, 200) n;
INSERT INTO shipments SELECT n, n * 2, 'packed' FROM generate_series(1, 4000) n;
INSERT INTO price_history SELECT n % 2000, n % 90, date '2025-01-01' + n % 300, repeat('p', 40) FROM generate_series(1, 3000) n;

CREATE FUNCTION close_day(day int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
  SELECT count(*) INTO n FROM orders WHERE id % 30 = day % 30;
  RAISE LOG 'day % closed: % orders settled', day, n;
  IF n > 50 THEN RAISE NOTICE 'busy day, % orders', n; END IF;
  RETURN n;
END $$;
CREATE FUNCTION loyalty_points(who int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE points int;
BEGIN
  SELECT coalesce(sum(total), 0) / 10 INTO points FROM orders WHERE customer = who;
  IF points < 30 THEN RAISE WARNING 'customer % has only % points, tier stays basic', who, points; END IF;
  RETURN points;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO shop_web, shop_worker;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO shop_web, shop_worker;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO report_ro, analyst;
GRANT SELECT ON products TO partner_feed;
RESET ROLE;
CREATE SERVER carrier FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'rates');
CREATE USER MAPPING FOR shop_worker SERVER carrier OPTIONS (user 'shop', password 'rates-2f7a');
CREATE FOREIGN TABLE carrier_rates (country text, weight int, price numeric) SERVER carrier;
GRANT SELECT, INSERT ON carrier_rates TO shop_worker;
