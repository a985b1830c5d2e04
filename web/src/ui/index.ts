// The widgets that every view uses.

export { Button, IconButton, LinkButton } from "./button";
export { confirm, Dialog, Drawer } from "./dialog";
export { Choice, NumberField, SearchField, Select, Slider, TextArea, TextField } from "./field";
export { Icon, type IconName } from "./icon";
export { type Entry, Menu, Popover } from "./menu";
export { Badge, copyText, CopyButton, Empty, Figure, Fold, Keys, Loading, Meter, Note, Tabs, type Tone } from "./parts";
export { rove } from "./roving";
export { type Column, Table } from "./table";
export { say } from "./toast";
