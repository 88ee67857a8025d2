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
