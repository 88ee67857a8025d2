// A table that is wider than the page scrolls inside its own box. It gets a class, by which the
// stylesheet says so, and the keyboard can scroll it.
(() => {
  const boxes = document.querySelectorAll("article .text_html, article .pst-scrollable-table-container");
  const mark = (box) => {
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
