// @ts-check
// What webpack needs to have something to bundle.
document.title = "a page";
