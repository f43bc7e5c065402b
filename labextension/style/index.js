import 'uplot/dist/uPlot.min.css';
import '../chart/style.css';
