"use strict";
// the search box shows the rows that hold all its words
const search = document.getElementById("search");
const count = document.getElementById("found");
const rows = [...document.querySelectorAll("tr[data-row]")];
const texts = rows.map((row) => row.textContent.toLowerCase());
function find() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  rows.forEach((row, i) => {
    row.hidden = !words.every((word) => texts[i].includes(word));
    found += !row.hidden;
  });
  count.textContent = words.length ? `${found} of ${rows.length} rows` : "";
}
if (search) search.addEventListener("input", find);
