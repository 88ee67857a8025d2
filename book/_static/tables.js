// A table of results that is wider than a phone is read there a row as a paragraph: it gets the
// class "rows". Elsewhere it scrolls inside its own box. The box gets a class, by which the
// stylesheet says so, and the keyboard can scroll it.
(() => {
  const phone = matchMedia("(max-width: 576px)");
  const boxes = document.querySelectorAll("article .text_html, article .pst-scrollable-table-container");
  const mark = (box) => {
    const tables = box.matches(".text_html") ? [...box.querySelectorAll("table")] : [];
    box.classList.remove("wide");
    tables.forEach((table) => table.classList.remove("rows"));
    if (phone.matches)
      tables
        .filter((table) => table.tHead && table.offsetWidth > box.clientWidth + 1)
        .forEach((table) => table.classList.add("rows"));
    const wide = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("wide", wide);
    if (wide) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const watch = new ResizeObserver((seen) => seen.forEach((entry) => mark(entry.target)));
  boxes.forEach((box) => {
    watch.observe(box);
    box.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", () => mark(box)));
  });
})();

// The text of a table with four columns or more is read one cell below the other on a phone. There
// each cell begins with the name of its column.
(() => {
  document.querySelectorAll("article .pst-scrollable-table-container > table").forEach((table) => {
    const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    if (names.length < 4) return;
    table.classList.add("stack");
    table.querySelectorAll("tbody tr").forEach((row) => {
      [...row.cells].slice(1).forEach((cell, k) => {
        const text = cell.firstElementChild;
        if (cell.textContent.trim() === "") cell.classList.add("blank");
        else if (text) text.dataset.label = names[k + 1];
      });
    });
  });
})();
