// The widgets that every view uses.

export { Button, IconButton, LinkButton } from "./button";
export { confirm, Dialog, Drawer } from "./dialog";
export { Choice, Field, SearchField, Select, Slider, Switch, TextArea, TextField } from "./field";
export { Icon, type IconName } from "./icon";
export { type Entry, Menu, Popover } from "./menu";
export { Badge, type Column, copyText, CopyButton, Empty, Fold, Keys, Meter, Note, Table, Tabs, type Tone } from "./parts";
export { say } from "./toast";
