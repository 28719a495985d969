// The page's elements, and the values that the server put into its HTML.

export const root = document.body.dataset.root; // a prefix, if a proxy shows the API below one
export const maxBytes = Number(document.body.dataset.maxBytes);

export const byId = (id) => document.getElementById(id);
